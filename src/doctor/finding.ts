/** One thing that was looked at. */
export interface Finding {
  readonly check: string
  /** `off`: the configuration does not use it. `not_examined`: nothing can be said from here. */
  readonly outcome: 'well' | 'wrong' | 'off' | 'not_examined'
  /** What is wrong and what to change, how to switch it on, or why nothing can be said. */
  readonly advice?: string
}

/** What is without advice is well. */
export function finding(check: string, advice: string | undefined): Finding {
  return advice ? { check, outcome: 'wrong', advice } : { check, outcome: 'well' }
}
