/**
 * Whether people can read a name for what it is: one line, something visible, and nothing that is
 * invisible or turns the text around it. Names are shown where someone decides whom to trust.
 */
export function isDisplayName(name: string, limitCharacters: number): boolean {
  return [...name].length <= limitCharacters && visible.test(name) && !hidden.test(name)
}

/** What {@link isDisplayName} asks for, as the end of a sentence. */
export function displayNameRule(limitCharacters: number): string {
  return `1 to ${limitCharacters} characters on one line, one of them visible and none invisible`
}

/** U+2800 is the braille pattern without a dot. */
const visible = /(?!\u2800)[\p{L}\p{N}\p{P}\p{S}]/u

/** Ends a line, is ignored where text is shown, has no meaning, or stacks without end. */
const hidden =
  /[\p{Cc}\p{Cf}\p{Co}\p{Cn}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]|\p{M}{7}/u

const seen = '\\p{L}\\p{N}\\p{P}\\p{S}'
const shown = `[ ${seen}]`

/** {@link isDisplayName} in the words of JSON Schema, but for rare characters that are not shown. */
export function displayNameSchema(limitCharacters: number) {
  return { minLength: 1, maxLength: limitCharacters, pattern: `^${shown}*[${seen}]${shown}*$` }
}
