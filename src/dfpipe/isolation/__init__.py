"""Work on one video where a crash, a hang or a memory hog cannot take the run along.

Every thread that extracts videos keeps one child process, which does video after video. The parent waits with a
deadline, and what comes back is data: Arrow and JSON, never pickles, held against the tables' schemas.
"""

from dfpipe.isolation.extract import extract_isolated

__all__ = ["extract_isolated"]
