// Keeps in IndexedDB which kernels are fastest on this machine's GPU, for the next visit.

const DATABASE = 'googlenet-web';
const STORE = 'tuning';

/** Returns the choices that were kept for an adapter, or undefined. */
export function readTuning(adapter: string): Promise<string | undefined> {
  return inStore('readonly', (store) => store.get(adapter) as IDBRequest<string | undefined>);
}

/** Keeps the choices for an adapter. */
export async function writeTuning(adapter: string, choices: string): Promise<void> {
  await inStore('readwrite', (store) => store.put(choices, adapter));
}

async function inStore<T>(mode: IDBTransactionMode, work: (store: IDBObjectStore) => IDBRequest<T>): Promise<T> {
  const opening = indexedDB.open(DATABASE, 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(STORE);
  const database = await result(opening);
  try {
    return await result(work(database.transaction(STORE, mode).objectStore(STORE)));
  } finally {
    database.close();
  }
}

/** Resolves to the result of a request. */
function result<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
