"""What both processes know: cameras, captures, camera paths. Standard library and numpy only."""
