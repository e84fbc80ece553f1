"""`python -m amf COMMAND …`: the command line without installing."""

from amf.cli import main

raise SystemExit(main())
