"""An exported student, and its teacher beside it, as a small web service with a page to try it."""
