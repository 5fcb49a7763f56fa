"""Usual wrong answers to each exercise, as a reader would write them in the chapter, and a piece of what is said."""

WRONG = {
    "4.1": [("298", "a few pixels short"), ("19074", "how many images"), ("300", "too large"), ("'many'", "a number")],
    "4.2": [("(verdict.intervals.query('part == \"weights\" and distance == \"l2\"')"
             ".eval('error / threshold').max())", "every distance"), ("1", "too small"), ("float('nan')", "finite")],
    "4.3": [("answer_4_3 / the_task.checkpoint_interval", "the last one is alone"), ("0.05", "too small")],
    "4.4": [("proof", "accepted whole"), ("spoof", "as much as Attack I"), ("spoof.folder", "must be a proof"),
            ("pk.retrain(the_task.replace(epochs=1), 3)", "does not end at W_T")],
}  # fmt: skip
