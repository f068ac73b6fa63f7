"""What each ``nlp-distill`` command does: one module a command, with ``run(options)``; options become objects here."""
