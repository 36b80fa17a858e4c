import { readdir, readFile } from 'node:fs/promises'
import test from 'ava'

/*
 * The release before serves while a migration runs, and after it: a migration adds. What the release
 * before may still use is taken away one release later, in a file with a line "-- contract: why the
 * release before does not use it".
 */
const contractions: readonly [RegExp, string][] = [
  [/\bdrop\b/i, 'drops something'],
  [/\brename\b/i, 'renames something'],
  [/\btruncate\s+table\b/i, 'empties a table'],
  [/\balter\s+column\b/i, 'changes a column'],
  [/\badd\s+constraint\b/i, 'constrains a table that is written to'],
  [
    /\badd\s+column\b[^,;]*\bnot\s+null\b(?![^,;]*\bdefault\b)/i,
    'adds a column that old nodes leave out',
  ],
]

function findContractions(sql: string): string[] {
  if (/^-- contract: \S/m.test(sql)) return []
  const statements = sql.replace(/--.*$/gm, '').replace(/\$\$.*?\$\$/gs, '')
  return contractions.flatMap(([pattern, what]) => (pattern.test(statements) ? [what] : []))
}

for (const file of (await readdir('migrations')).sort()) {
  test(`${file} can run while the release before serves`, async (t) => {
    t.deepEqual(findContractions(await readFile(`migrations/${file}`, 'utf8')), [])
  })
}

for (const sql of [
  'drop table accounts;',
  'alter table accounts drop column name;',
  'alter table accounts rename column name to full_name;',
  'alter table accounts alter column name set not null;',
  'alter table accounts add constraint accounts_name_key unique (name);',
  'alter table accounts add column locale text not null;',
  'truncate table replay_marks;',
]) {
  test(`notices: ${sql}`, (t) => {
    t.is(findContractions(sql).length, 1)
    t.deepEqual(findContractions(`-- contract: nothing has read it since 1.2\n${sql}`), [])
  })
}

for (const sql of [
  '-- a drop in a comment\ncreate table later (id int);',
  "alter table accounts add column locale text not null default 'en', add column zone text;",
  'create function f() returns trigger language plpgsql as $$ begin drop table x; end $$;',
]) {
  test(`lets pass: ${sql}`, (t) => t.deepEqual(findContractions(sql), []))
}
