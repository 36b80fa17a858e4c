/** Mutants that no test can find, because they change nothing that is answered or done. */
export const ignored: readonly {
  readonly file: string
  /** As it stands in the source. */
  readonly guard: string
  readonly replacement: string
  readonly reason: string
}[] = []
