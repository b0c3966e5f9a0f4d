// The tail of the binomial distribution, exact enough for the false-alarm rates of SP 800-90B (2^-60 and less).

/** The least k with P(X <= k) >= 1 - alpha, X binomial: summed from the far tail, smallest terms first. */
export function criticalBinomial(trials: number, probability: number, alpha: number): number {
  let tail = 0;
  for (let k = trials; k >= 0; k--) {
    // P(X >= k) is the tail after adding this term; k - 1 is critical as long as that stays within alpha.
    const next = tail + Math.exp(logBinomial(trials, k, probability));
    if (next > alpha) return k;
    tail = next;
  }
  return 0;
}

const logFactorials = [0];

function logFactorial(n: number): number {
  for (let i = logFactorials.length; i <= n; i++)
    logFactorials.push((logFactorials[i - 1] ?? 0) + Math.log(i));
  return logFactorials[n] ?? 0;
}

function logBinomial(trials: number, k: number, probability: number): number {
  const choose = logFactorial(trials) - logFactorial(k) - logFactorial(trials - k);
  const successes = k === 0 ? 0 : k * Math.log(probability);
  return choose + successes + (k === trials ? 0 : (trials - k) * Math.log1p(-probability));
}
