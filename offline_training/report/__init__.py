"""What all reports share: their parts, the drawing of charts, rendering with Jinja, and thumbnails."""
