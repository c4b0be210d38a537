"""What leaves the project: the challenge's archive, the write-up, published weights."""
