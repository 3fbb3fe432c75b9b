// A queue of tasks.

/** Runs tasks one after the other, in the order in which they were added. */
export class Queue {
  /** Resolves when the task that was added last has ended or has released the queue. */
  #last: Promise<void> = Promise.resolve();

  /**
   * Adds a task, and resolves or rejects as it does. The next task begins when this one has ended, or as soon as this
   * one calls `release`.
   */
  add<T>(task: (release: () => void) => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const run = () => new Promise<void>((release) => void task(release).then(resolve, reject).finally(release));
      this.#last = this.#last.then(run);
    });
  }
}
