"""The program's own errors: each is a sentence for the user, each class has one exit code."""


class CurationError(Exception):
    """Something failed; the message says what, where, and what to do. Exit code 1."""

    exit_code = 1


class UsageError(CurationError):
    """The manifest or the command line is wrong; the message names file, line and key. Exit code 2."""

    exit_code = 2


class Malformed(UsageError):
    """A file of a source is not what its name says. Of one table it is a usage error; of many it costs that file."""


class Unavailable(CurationError):
    """What every record needs cannot be had (a server is down): the run stops, no record is blamed. Exit code 1."""


class TimedOut(CurationError):
    """A limit of wall-clock time ended the reading of a record. A busy machine may be to blame, so the record is tried
    again at the end of the phase, when nothing else runs. Exit code 1."""


class Denied(CurationError):
    """A disk or an object store does not let this user read or write a place. Exit code 1."""


class NothingKept(CurationError):
    """Every record was dropped or quarantined; the message names the gate that emptied the run. Exit code 3."""

    exit_code = 3


class Preempted(CurationError):
    """Told to stop by SIGTERM, with everything saved. Exit code 143, as schedulers expect of it."""

    exit_code = 143
