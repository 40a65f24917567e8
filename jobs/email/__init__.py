"""How e-mails are made and sent: the gateway of the queue `emails`. Needs the extra `email`."""
