// The script of the package's workers: a session, or one of its helper workers. The first message decides which.

import { failure } from './api/errors.js';
import type { Message, Reply, SharedModule } from './worker/protocol.js';
import { Session } from './worker/session.js';
import { runHelper, requestHelpers } from './worker/threads.js';

const begin = ({ data }: MessageEvent<Message | SharedModule>) => {
  if ('memory' in data) void runHelper(data).catch(reportError);
  else runSession(data);
};
self.addEventListener('message', begin, { once: true });
self.postMessage({ ready: true } satisfies Reply);

/** Runs a session, whose first message has come already. */
function runSession(first: Message): void {
  const post = (reply: Reply, transfer: Transferable[] = []) => self.postMessage(reply, { transfer });
  const session = new Session(post, requestHelpers);
  const receive = (message: Message) => {
    if (!('arrived' in message)) session.receive(message);
  };
  self.addEventListener('message', ({ data }: MessageEvent<Message>) => receive(data));

  // A panic inside an asynchronous call of the engine is reported here, and the call itself never ends.
  self.addEventListener('error', (event) => {
    event.preventDefault();
    post({ fatal: failure(event.error ?? event.message) });
  });
  self.addEventListener('unhandledrejection', (event) => {
    event.preventDefault();
    post({ fatal: failure(event.reason) });
  });
  receive(first);
}
