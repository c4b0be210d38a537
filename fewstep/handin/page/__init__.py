"""A static page that draws images with a student in the browser; the command is in `main`."""
