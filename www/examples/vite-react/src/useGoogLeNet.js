import { useEffect, useState } from 'react';
import { GoogLeNet } from 'googlenet-web';

/** Returns a network for the lifetime of the component. The options are those of the first rendering. */
export function useGoogLeNet(options) {
  const [state, setState] = useState({});
  useEffect(() => {
    const ended = new AbortController();
    const { signal } = ended;
    const onProgress = (progress) => setState({ progress });
    let net;
    GoogLeNet.load({ ...options, onProgress, signal }).then(
      (loaded) => {
        net = loaded;
        setState({ net });
      },
      (error) => signal.aborted || setState({ error }),
    );
    return () => {
      ended.abort();
      net?.free();
    };
  }, []);
  return state;
}
