"""What `fewstep compare` is made of: cells (flag sets x seeds), running them, and their table."""
