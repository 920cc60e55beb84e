# Perl checks itself; whoever compares the output with another machine's perl checks it once more.
# Whole numbers and text only: the last bit of a fraction may differ between processors.
use strict;
use warnings;
$| = 1;

my $failed = 0;

sub check {
  my ($name, $holds) = @_;
  return if $holds;
  print "FAIL $name\n";
  $failed++;
}

my $state = 12345;

sub next_random {
  $state = ($state * 1103515245 + 12345) % 2147483648;
  return $state >> 8;
}

# Hashes and sorting.
my %count;
$count{next_random() % 997}++ for 1 .. 20000;
my $total = 0;
$total += $_ for values %count;
check('hash', $total == 20000);
my @order = sort { $count{$b} <=> $count{$a} || $a <=> $b } keys %count;
print "most frequent: @order[0 .. 9]\n";

# Text.
my $text = join ' ', map { sprintf '%s-%05d', chr(97 + $_ % 26), next_random() % 100000 } 1 .. 3000;
my $digits = 0;
$digits += $1 while $text =~ /[aeiou]-(\d+)\b/g;
(my $turned = $text) =~ s/(\w)-(\d+)/$2$1/g;
print "digits $digits, checksum ", unpack('%32C*', $turned), "\n";
check('reverse', reverse(scalar reverse $text) eq $text);
check('pack', join(',', unpack 'N n C a3 w', pack 'N n C a3 w', 1 << 31, 65535, 200, 'abc', 300) eq
    '2147483648,65535,200,abc,300');
my @tree = map { { key => $_, list => [1 .. $_] } } 1 .. 200;
my $leaves = 0;
$leaves += @{ $_->{list} } for @tree;
check('structures', $leaves == 20100);

# Digits of 2 to the 1000th, by hand.
my @digits = (1);
for (1 .. 1000) {
  my $carry = 0;
  for (@digits) {
    my $value = 2 * $_ + $carry;
    $_ = $value % 10;
    $carry = int($value / 10);
  }
  push @digits, $carry if $carry;
}
print '2**1000 = ', join('', reverse @digits), "\n";

# Closures, recursion, eval, sprintf.
my @adders = map { my $n = $_; sub { return $_[0] + $n } } 1 .. 50;
my $sum = 0;
$sum = $_->($sum) for @adders;
check('closures', $sum == 1275);
sub moves { my ($n) = @_; return $n == 0 ? 0 : 2 * moves($n - 1) + 1 }
check('recursion', moves(20) == 1048575);
check('eval', !defined eval { die { code => 7 } } && $@->{code} == 7);
check('sprintf', sprintf('%08x|%-6s|%+d|%.3f', 48879, 'ab', 5, 2.5) eq '0000beef|ab    |+5|2.500');

# Processes.
pipe my $reader, my $writer or die;
my @children;
for my $number (1 .. 5) {
  my $child = fork;
  die unless defined $child;
  if ($child == 0) {
    syswrite $writer, "$number\n";
    exit $number;
  }
  push @children, $child;
}
close $writer;
my $from_children = join ',', sort map { chomp; $_ } <$reader>;
my $statuses = 0;
for (@children) { waitpid $_, 0; $statuses += $? >> 8 }
check('processes', $from_children eq '1,2,3,4,5' && $statuses == 15);
my $alarmed = 0;
local $SIG{ALRM} = sub { $alarmed++ };
alarm 1;
select undef, undef, undef, 3;
check('alarm', $alarmed == 1);

print "failed $failed\n";
exit($failed ? 1 : 0);
