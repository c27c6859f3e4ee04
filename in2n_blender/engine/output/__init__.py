"""What leaves the engine: frames along a camera path, meshes, and the sheets a person looks at."""
