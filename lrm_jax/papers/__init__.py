"""Tables of papers: their claims, our runs, and what came of them."""
