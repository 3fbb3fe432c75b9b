// The page without a network.

/** Addresses that the service worker keeps already. */
const kept = new Set<string>();

/**
 * Keeps what the page is made of, and the engine's files it has used so far, for the next visit. The weights keep
 * themselves. Comes last, since it is no part of what the visit is for; may be called again when other files were used.
 */
export async function keep(used: string[]): Promise<void> {
  if (!import.meta.env.PROD || !('serviceWorker' in navigator)) return;
  const fresh = ['models/index.json', ...used].filter((address) => !kept.has(address));
  if (fresh.length === 0) return;
  for (const address of fresh) kept.add(address);
  await navigator.serviceWorker.register('sw.js');
  if (!navigator.serviceWorker.controller) {
    await new Promise((resolve) => navigator.serviceWorker.addEventListener('controllerchange', resolve, { once: true }));
  }
  // Through the service worker now, which keeps them.
  await Promise.all(fresh.map((address) => fetch(address)));
}
