"""Problems: builders, generated tasks, prompts, the input pipeline."""
