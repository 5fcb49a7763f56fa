"""What the chapters compute with the parties: experiments, and spoofs that the paper does not know."""
