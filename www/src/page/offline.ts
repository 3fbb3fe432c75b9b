// The page without a network.

/**
 * Keeps what the page is made of, and the engine's files it has used, for the next visit. The weights keep themselves.
 * Comes last, since it is no part of what the visit is for.
 */
export async function keep(used: string[]): Promise<void> {
  if (!import.meta.env.PROD || !('serviceWorker' in navigator)) return;
  await navigator.serviceWorker.register('sw.js');
  if (!navigator.serviceWorker.controller) {
    await new Promise((resolve) => navigator.serviceWorker.addEventListener('controllerchange', resolve, { once: true }));
  }
  // Through the service worker now, which keeps them.
  await Promise.all(['models/index.json', ...used].map((address) => fetch(address)));
}
