"""A mail server for tests, and the mails that it received."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.orchestration.real_airflow import wait
from zeshel_tasks.demo.local_airflow.configuration import free_port


@dataclass
class Mailbox:
    """The mails that arrived, oldest first; the handler of the server."""

    port: int
    mails: list[EmailMessage] = field(default_factory=list)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return "250 OK"

    def wait(self, part: str) -> EmailMessage:
        """The first mail with ``part`` in its subject."""
        found = wait(lambda: [mail for mail in self.mails if part in mail["subject"]], f"a mail with {part!r}")
        return found[0]


@contextmanager
def mail_server() -> Iterator[Mailbox]:
    """A mail server on a free port of 127.0.0.1."""
    mailbox = Mailbox(free_port())
    server = Controller(mailbox, hostname="127.0.0.1", port=mailbox.port)
    server.start()
    yield mailbox
    server.stop()


def text_of(mail: EmailMessage) -> str:
    """The body of a mail."""
    body = mail.get_body()
    assert body is not None
    return str(body.get_content())
