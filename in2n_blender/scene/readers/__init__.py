"""One file a format; `read` chooses by what the folder or file holds."""
