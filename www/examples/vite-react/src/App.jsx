import { useState } from 'react';
import { useGoogLeNet } from './useGoogLeNet.js';

export function App() {
  const { net, progress, error } = useGoogLeNet({ heads: false });
  const [answer, setAnswer] = useState('Choose one.');

  const look = async (file) => {
    try {
      const { top, ms } = await net.classify(file);
      setAnswer(`${top[0].label}, ${(top[0].probability * 100).toFixed(1)} %, ${ms.run.toFixed(0)} ms`);
    } catch (why) {
      setAnswer(why.message);
    }
  };

  return (
    <main>
      <h1>What is in the picture?</h1>
      <p>
        <label>
          A photograph{' '}
          <input type="file" accept="image/*" disabled={!net} onChange={({ target }) => look(target.files[0])} />
        </label>
      </p>
      <p>
        <output>{error?.message ?? (net ? answer : `${progress?.phase}: ${progress?.loaded} bytes`)}</output>
      </p>
    </main>
  );
}
