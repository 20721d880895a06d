// A page that was opened as a file may not fetch others, so results are shown without the lines around a hit.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
