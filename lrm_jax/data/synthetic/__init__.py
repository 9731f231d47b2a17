"""Problems and traces the project generates itself."""
