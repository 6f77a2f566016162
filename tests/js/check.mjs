// What the suites share: numbered checks, waits with a deadline.

const LIMIT_MS = 60_000;

export function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not happen in ${LIMIT_MS} ms`)), LIMIT_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export function equal(got, expected, what) {
  const [left, right] = [JSON.stringify(got), JSON.stringify(expected)];
  if (left !== right) throw new Error(`${what}: got ${left}, expected ${right}`);
}

export async function step(name, run) {
  const begun = Date.now();
  await within(run(), name);
  console.log(`ok ${name} (${Date.now() - begun} ms)`);
}
