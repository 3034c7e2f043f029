"""The endpoint's certificate, taken up again when it changes: it is renewed under a running operator."""

import asyncio
import logging
import ssl
from pathlib import Path

from lmforge_operator.errors import SettingsError

log = logging.getLogger(__name__)

CHECK_SECONDS = 10.0


class Certificate:
    """tls.crt and tls.key of a directory, as a server's SSL context."""

    def __init__(self, folder: Path) -> None:
        self._files = (folder / "tls.crt", folder / "tls.key")
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._loaded = self._load()

    def refresh(self) -> bool:
        """Loads the files again if they changed; connections from then on see the new ones."""
        if self._stamp() == self._loaded:
            return False
        self._loaded = self._load()
        return True

    async def keep_fresh(self) -> None:
        """Looks again and again. A half-written pair is tried again at the next look."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            try:
                if self.refresh():
                    log.info("took up the renewed certificate")
            except SettingsError as error:
                log.warning("keeping the former certificate: %s", error)

    def _load(self) -> tuple[int, ...]:
        stamp = self._stamp()
        try:
            self.context.load_cert_chain(*self._files)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(f"The certificate in {self._files[0].parent} can't be used: {error}") from error
        return stamp

    def _stamp(self) -> tuple[int, ...]:
        try:
            return tuple(path.stat().st_mtime_ns for path in self._files)
        except OSError as error:
            raise SettingsError(f"The certificate can't be read: {error}") from error
