"""The book: its chapters run headlessly, and their figures, panels, claims, exercises and challenge."""
