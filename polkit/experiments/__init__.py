"""What the chapters compute with the parties: experiments, and spoofs besides the attacks of the paper."""
