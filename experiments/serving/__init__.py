"""A model behind HTTP: what is asked, who may ask, and how it is answered."""
