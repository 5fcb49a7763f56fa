"""What proofs and spoofs cost in seconds and bytes, and how that grows: what `make bench` and `make growth` measure."""
