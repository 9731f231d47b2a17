"""The parts a method is composed of, one pure function each."""
