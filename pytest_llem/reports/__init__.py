"""Reports: results as text. Each is a pure function; ``files`` alone writes."""
