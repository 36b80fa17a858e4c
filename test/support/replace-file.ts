import { rename, writeFile } from 'node:fs/promises'

/** Puts a file in the place of another, so that nobody ever reads half of it. */
export async function replaceFile(file: string, text: string): Promise<void> {
  await writeFile(`${file}.next`, text)
  await rename(`${file}.next`, file)
}
