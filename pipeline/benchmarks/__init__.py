"""Submissions to public benchmarks: read what they publish, write what they take, and check it by reading it again."""
