"""The book as pages that open from disk: `make site`. Nothing is executed, nothing is fetched."""
