-- Another name to sign in with, in its one form (docs/accounts.md).
alter table accounts add column username text;

create unique index accounts_username_key on accounts (username) where username is not null;
