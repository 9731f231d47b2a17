"""State on disk: orbax for runs, the Hugging Face layout for models."""
