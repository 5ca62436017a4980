-- The shell of the type, so that functions can name it.
CREATE TYPE pan;
