// Keeps the page's files for visits without an internet connection.

/** The addresses that the service worker keeps already. */
const kept = new Set<string>();

/**
 * Keeps the page, and the engine's files that were used so far, for the next visit. (The package keeps the weights.)
 * This is called last, since this visit does not need it, and again when other files were used.
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
  // The service worker handles these requests, and keeps the files.
  await Promise.all(fresh.map((address) => fetch(address)));
}
