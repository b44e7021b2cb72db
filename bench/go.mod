module mirrorborn.us/sqgate/bench

go 1.26.0
