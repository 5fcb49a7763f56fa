"""The book: its chapters run headlessly, and their figures, panels and claims."""
