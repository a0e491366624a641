"""Which version of a file an origin serves, by the validators of HTTP (RFC 9110 §8.8)."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FileVersion:
    """Length in bytes, entity tag and date of last change as the origin wrote them; None and "" where it is silent."""

    content_length: int | None
    etag: str = ""
    last_modified: str = ""

    @property
    def generation(self) -> str:
        """A short name for this version, equal on every host that saw the same one; peers compare it, not the tags.

        Made of the one validator that `difference` would go by, and the length; "" where the origin sends none, for a
        length alone does not tell one version from the next.
        """
        etag = self.etag if _is_strong(self.etag) else ""
        certain = etag or self.last_modified or self.etag.removeprefix("W/")
        if not certain:
            return ""
        return hashlib.sha256(f"{self.content_length} {certain}".encode()).hexdigest()[:16]

    def difference(self, now: "FileVersion") -> str:
        """Why `now` is another version of the file, as the end of a sentence; "" where nothing says that it is.

        Strong tags decide. Weak ones, and a weak beside a strong, decide only where no dates can be compared: servers
        that make tags from what they store give one file several.
        """
        if self.content_length != now.content_length and None not in (self.content_length, now.content_length):
            return f"it was {self.content_length} bytes long and is now {now.content_length}"
        tagged = bool(self.etag and now.etag)
        if tagged and _is_strong(self.etag) and _is_strong(now.etag):
            return "" if self.etag == now.etag else f"its ETag was {self.etag} and is now {now.etag}"
        if self.last_modified and now.last_modified:
            same = self.last_modified == now.last_modified
            return "" if same else f"it was last modified {self.last_modified}, now {now.last_modified}"
        if tagged and self.etag.removeprefix("W/") != now.etag.removeprefix("W/"):
            return f"its ETag was {self.etag} and is now {now.etag}"
        return ""


def _is_strong(etag: str) -> bool:
    return not etag.startswith("W/")
