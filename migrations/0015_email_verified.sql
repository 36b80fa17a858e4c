-- Whether an operator has said that the address belongs to the account: the claim email_verified.
alter table accounts add column email_verified boolean not null default false;
