// The worker's script: a session, or a helper of one; its first message tells.

import { failure } from './api/errors.js';
import { assist, summon } from './worker/threads.js';
import type { Message, Reply, Shared } from './worker/protocol.js';
import { Session } from './worker/session.js';

const begin = ({ data }: MessageEvent<Message | Shared>) => {
  if ('memory' in data) void assist(data).catch(reportError);
  else serve(data);
};
self.addEventListener('message', begin, { once: true });
self.postMessage({ ready: true } satisfies Reply);

function serve(first: Message): void {
  const post = (reply: Reply, moved: Transferable[] = []) => self.postMessage(reply, { transfer: moved });
  const session = new Session(post, summon);
  const receive = (message: Message) => {
    if (!('arrived' in message)) session.receive(message);
  };
  self.addEventListener('message', ({ data }: MessageEvent<Message>) => receive(data));

  // A panic inside an asynchronous call surfaces here and leaves that call hanging.
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
