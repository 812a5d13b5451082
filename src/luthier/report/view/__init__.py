"""From a `Story` to what the report's page shows: text for its tables and plain numbers for its charts, one
file a part of the page. How it looks is in `templates`."""
