/** Mutants that no test can find, because they change nothing that is answered or done. */
export const ignored: readonly {
  readonly file: string
  /** As it stands in the source. */
  readonly guard: string
  readonly replacement: string
  readonly reason: string
}[] = [
  {
    file: 'packages/verify/lib/json.ts',
    guard: 'members === undefined',
    replacement: 'false',
    reason:
      'A document that is too deep is refused by the comparison of members as well, but only after it was parsed.',
  },
]
