// Which kernels were found fastest on this machine's GPU, kept in IndexedDB for the next visit.

const DATABASE = 'googlenet-web';
const STORE = 'tuning';

/** What was kept for an adapter. */
export function kept(adapter: string): Promise<string | undefined> {
  return inStore('readonly', (store) => store.get(adapter) as IDBRequest<string | undefined>);
}

export async function keep(adapter: string, choices: string): Promise<void> {
  await inStore('readwrite', (store) => store.put(choices, adapter));
}

async function inStore<T>(mode: IDBTransactionMode, work: (store: IDBObjectStore) => IDBRequest<T>): Promise<T> {
  const opening = indexedDB.open(DATABASE, 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(STORE);
  const database = await done(opening);
  try {
    return await done(work(database.transaction(STORE, mode).objectStore(STORE)));
  } finally {
    database.close();
  }
}

function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
